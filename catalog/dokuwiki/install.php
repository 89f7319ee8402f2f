<?php
// Managed by socle. Writes the files DokuWiki's installer page would write, from the answers on standard
// input; those that are there stay.
$answers = json_decode( stream_get_contents( STDIN ), true, 4, JSON_THROW_ON_ERROR );
$conf = {{ data ~ "/conf/" }};

function once( $path, $text ) {
	if ( file_exists( $path ) ) {
		return;
	}
	$new = $path . '.new';
	if ( file_put_contents( $new, $text ) !== strlen( $text ) || ! rename( $new, $path ) ) {
		fwrite( STDERR, "cannot write $path\n" );
		exit( 1 );
	}
}

if ( ! preg_match( '/^[a-z0-9_.-]+$/', $answers['admin'] ) ) {
	fwrite( STDERR, "the administrator's login is not of a-z, 0-9, _, . and -\n" );
	exit( 1 );
}
once( $conf . 'local.php', '<?php' . "\n"
	. '$conf[\'title\'] = ' . var_export( $answers['title'], true ) . ";\n"
	. '$conf[\'lang\'] = ' . var_export( $answers['lang'], true ) . ";\n"
	. '$conf[\'superuser\'] = \'@admin\';' . "\n"
	. '$conf[\'disableactions\'] = \'register\';' . "\n" );
once( $conf . 'users.auth.php', "# users.auth.php\n# <?php exit()?>\n"
	. $answers['admin'] . ':' . password_hash( $answers['password'], PASSWORD_BCRYPT ) . ':Admin:'
	. $answers['email'] . ":admin,user\n" );
$rights = array(
	'open'   => "*\t@ALL\t8\n",
	'public' => "*\t@ALL\t1\n*\t@user\t8\n",
	'closed' => "*\t@ALL\t0\n*\t@user\t8\n",
);
once( $conf . 'acl.auth.php', "# acl.auth.php\n# <?php exit()?>\n" . $rights[ $answers['access'] ] );
echo "installed\n";
