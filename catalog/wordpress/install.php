<?php
// Managed by socle. Installs WordPress from the answers on standard input. May be run again after an
// interruption: what was left half-made is made anew, a finished site is not touched.
$answers = json_decode( stream_get_contents( STDIN ), true, 4, JSON_THROW_ON_ERROR );

mysqli_report( MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT );
$database = new mysqli( 'localhost', {{ user }}, '', {{ db }}, 0, '/run/mysqld/mysqld.sock' );
$tables   = array_column( $database->query( "SHOW TABLES LIKE 'wp\\_%'" )->fetch_all(), 0 );
$first    = static function ( $table, $query ) use ( $database, $tables ) {
	return in_array( $table, $tables, true ) ? ( $database->query( $query )->fetch_row()[0] ?? null ) : null;
};
$option   = static fn ( $name ) => $first( 'wp_options', "SELECT option_value FROM wp_options WHERE option_name = '$name'" );
$users    = (int) $first( 'wp_users', 'SELECT COUNT(*) FROM wp_users' );
if ( null !== $option( 'socle_installed' ) ) {
	echo "already installed\n";
	exit( 0 );
}
// WordPress says `fresh_site` until somebody publishes something.
if ( 0 === $users || ( 1 === $users && '1' === $option( 'fresh_site' ) ) ) {
	foreach ( $tables as $table ) {
		$database->query( "DROP TABLE `$table`" );
	}
	$users = 0;
}
$database->close();

$_SERVER['HTTP_HOST']       = {{ domain }};
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
$_SERVER['REQUEST_METHOD']  = 'GET';
$_SERVER['REQUEST_URI']     = '/';

define( 'WP_INSTALLING', true );
// Nothing is asked of the network while installing, and no mail is sent.
define( 'WP_HTTP_BLOCK_EXTERNAL', true );
function wp_mail() {
	return true;
}

require {{ current ~ "/wp-load.php" }};
require_once ABSPATH . 'wp-admin/includes/upgrade.php';

if ( 0 === $users ) {
	$done = wp_install(
		$answers['title'],
		$answers['admin'],
		$answers['email'],
		$answers['public'],
		'',
		wp_slash( $answers['password'] )
	);
	if ( is_wp_error( $done ) ) {
		fwrite( STDERR, $done->get_error_message() . "\n" );
		exit( 1 );
	}
}
if ( ! is_blog_installed() ) {
	fwrite( STDERR, "the tables are not there after the installation\n" );
	exit( 1 );
}
// The last act: without it, the next run begins anew.
update_option( 'socle_installed', $wp_version, false );
echo 'installed ', $wp_version, ', database ', get_option( 'db_version' ), "\n";
