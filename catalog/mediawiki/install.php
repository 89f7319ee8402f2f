<?php
// Managed by socle. Runs MediaWiki's own installer with the answers on standard input, which so are in
// no argument vector. May be run again after an interruption.
$answers = json_decode( stream_get_contents( STDIN ), true, 4, JSON_THROW_ON_ERROR );

$socket = '/run/mysqld/mysqld.sock';
mysqli_report( MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT );
$database = new mysqli( 'localhost', {{ user }}, '', {{ db }}, 0, $socket );
$tables = array_column( $database->query( 'SHOW TABLES' )->fetch_all(), 0 );
$rows = static fn ( $table ) => in_array( $table, $tables, true )
	? (int)$database->query( "SELECT COUNT(*) FROM `$table`" )->fetch_row()[0] : 0;
// The first page is the last thing the installer makes.
if ( $rows( 'page' ) > 0 ) {
	echo "already installed\n";
	exit( 0 );
}
if ( $tables && $rows( 'user' ) === 0 ) {
	// Left by an installation that was interrupted before anybody could write anything.
	$database->query( 'SET FOREIGN_KEY_CHECKS = 0' );
	foreach ( $tables as $table ) {
		$database->query( "DROP TABLE `$table`" );
	}
}
$database->close();

// The installer wants no settings there yet, and its own are thrown away.
putenv( 'MW_CONFIG_FILE=/nonexistent/LocalSettings.php' );
$argv = [
	'install.php',
	'--dbtype=mysql',
	'--dbserver=localhost:' . $socket,
	'--dbname=' . {{ db }},
	'--dbuser=' . {{ user }},
	'--dbpass=',
	'--installdbuser=' . {{ user }},
	'--installdbpass=',
	'--server=http://' . {{ domain }},
	'--scriptpath=',
	'--confpath=/tmp',
	'--lang=' . $answers['lang'],
	'--pass=' . $answers['password'],
	'--',
	$answers['title'],
	$answers['admin'],
];
$_SERVER['argv'] = $argv;
$_SERVER['argc'] = $argc = count( $argv );
unset( $answers, $database, $tables, $rows );
chdir( {{ current }} );
require {{ current ~ "/maintenance/install.php" }};
